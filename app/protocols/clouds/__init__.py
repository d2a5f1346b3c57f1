"""The doors that platforms of the clouds expect of a container, one file each; all are ways to the predict door."""
