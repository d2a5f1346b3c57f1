"""What the service is measured beside, one file each."""
