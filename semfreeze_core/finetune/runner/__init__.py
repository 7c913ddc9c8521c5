"""Who carries out the trainings of a comparison: this machine's processes, or Ray on many machines."""

# The modules that other rooms may import.
__all__ = ["runner"]
