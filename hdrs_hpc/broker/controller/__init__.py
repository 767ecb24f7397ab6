"""The loop that moves lives on: observes, decides, acts; holds no key."""
