"""What identifies a person in the pixels themselves: burned-in text and faces.

Nothing here touches a key or imports the stager, so that it can run in the parser's sandbox as well.
"""
