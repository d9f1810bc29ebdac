"""What this process has counted, by the names that Prometheus sees."""

from prometheus_client import REGISTRY, CollectorRegistry


def sample(name: str, **labels: str) -> float | None:
    """The value of one series; None when there is no such series."""
    return REGISTRY.get_sample_value(name, labels)


def series(name: str, registry: CollectorRegistry = REGISTRY) -> dict[tuple[str, ...], float]:
    """All series of one name: the values of their labels, in the order of the labels' names, and the value."""
    return {
        tuple(value for _, value in sorted(each.labels.items())): each.value
        for family in registry.collect()
        for each in family.samples
        if each.name == name
    }
