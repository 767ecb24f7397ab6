"""The demo's last screen."""
from rich.console import Console
from pathlib import Path
import json
def show_ending(console, folder, facts, total):
    console.print_json(json.dumps({k:v for k,v in facts.items()}, default=str))
