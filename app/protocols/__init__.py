"""The doors: each translates its protocol to the one data plane and back, and knows nothing that another knows."""
