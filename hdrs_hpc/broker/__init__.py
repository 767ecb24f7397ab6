"""The broker in the data zone: web, controller and keyd, each a process of its own."""
