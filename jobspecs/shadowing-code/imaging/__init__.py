"""Code under one of this project's own names: the example of ``bundle-shadows-names``."""


def run(context):
    """Never called: a bundle like this is refused."""
