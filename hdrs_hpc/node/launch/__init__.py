"""What runs inside the sandbox: the launcher, the ranks it starts, and what they tell the agent at the end."""
