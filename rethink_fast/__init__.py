"""How fast can this network memorise noise? Zhang et al. (2017) as a high-throughput benchmark."""

__version__ = "0.1.0"
