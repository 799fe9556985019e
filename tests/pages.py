"""What a page of the docs says in code."""

import re


def snippets(text, language):
    """The fenced blocks of a page's text that are of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
