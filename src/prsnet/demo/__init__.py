"""The demonstration: everything the package does, on generated people, in a few minutes on a CPU."""

from prsnet.demo.stages import DemoSize, run_demo

__all__ = ["DemoSize", "run_demo"]
