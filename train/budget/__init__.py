"""budget: what a step needs and costs, by arithmetic on a config, a recipe's `train` and the ranks.

shape         how large a model is
job           what is trained on what
activations   bytes a token, held against traces
memory        bytes of a GPU and a host, by part
cost          FLOPs and traffic of a step
fit           does it fit, and in which chunks would it
"""

from .cost import Cost, cost_of
from .fit import UNKNOWN, Machine, fit_problems, propose
from .job import Job
from .memory import GpuMemory, HostMemory, gpu_memory, host_memory
from .shape import Shape

__all__ = [
    "UNKNOWN",
    "Cost",
    "GpuMemory",
    "HostMemory",
    "Job",
    "Machine",
    "Shape",
    "cost_of",
    "fit_problems",
    "gpu_memory",
    "host_memory",
    "propose",
]
