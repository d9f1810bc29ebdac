"""Hold back what a client sends faster than it is answered."""

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """A flow control whose reading can be held: until it is released, nothing else resumes it."""

    _held = False

    def hold(self) -> None:
        """Stop reading until `release`."""
        self._held = True
        self.pause_reading()

    def release(self) -> None:
        """Read again."""
        self._held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        if not self._held:
            super().resume_reading()
