"""The executor of a Slurm cluster: one pilot allocation, and one step of it for each shard."""
