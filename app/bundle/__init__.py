"""The bundle: a folder that holds all that serving needs, and all that proves it."""
