"""t2bench: what each modernisation of the transformer buys you, measured on your hardware, with intervals."""

__version__ = "0.1.0"
