"""Names and sentences use the field's terms instead of words of earlier versions."""

import io
import re
import tokenize
from pathlib import Path

import pytest

WORDS = {
    "told": "printed, reported",
    "tell": "print, report",
    "tells": "prints, reports",
    "mend": "fix",
    "kept": "stored, cached, retained",
    "sibling": "near-duplicate",
    "siblings": "near-duplicates",
    "twin": "exact duplicate",
    "twins": "exact duplicates",
    "crew": "worker pool",
    "tether": "parent death",
    "recipe": "config",
    "recipes": "configs",
    "anew": "again",
    "hook": "callback",
    "hooks": "callbacks",
    "begun": "started",
}
PHRASES = {
    r"go(es|ing)? on (from|with|to|where|all|as|in|at|without|now|later)": "resumes, continues",
    r"in words\b": "as text",
    r"\bis no (run|weights|image|config|file|whole|folder|directory|checkpoint|table|png)\b": "is not a",
    r"\ba line a (run|step|row|image|class)\b": "one line per",
}
FOLDERS = ("jaxnets", "scripts", "configs", "benchmarks", "studies", "tests")
WORD = re.compile(r"[A-Za-z]+")
API = re.compile(r"\.tell(?=\()|object_pairs_hook|(register_)?forward[ _]hooks?")
"""Names of the standard library and of PyTorch."""
TYPES = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}


def _problems(source: str) -> list[str]:
    """Returns the disallowed words and phrases of a Python file, with line numbers and replacements."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(API.sub("", source)).readline):
        if token.type not in TYPES:
            continue
        text = re.sub(r"\s+", " ", token.string)
        words = {word.lower() for word in WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text))}
        bad = {word: WORDS[word] for word in words & WORDS.keys()}
        bad |= {pattern: term for pattern, term in PHRASES.items() if re.search(pattern, text)}
        found += [f"{token.start[0]}: {word!r}, write {term}" for word, term in bad.items()]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_disallowed_words(repository: Path, folder: str) -> None:
    found = [
        f"{path.relative_to(repository)}:{problem}"
        for path in sorted((repository / folder).rglob("*.py"))
        if path != Path(__file__)
        for problem in _problems(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def _tell_rows(): ...", "tell"),
        ("x = f'{a} goes on from {b}'", "resumes"),
        ('"""A run that was\n\nbegun."""', "begun"),
        ("class OldHook: ...  # of a run", "hook"),
        ("raise ValueError('this is no run directory')", "is not a"),
    ],
)
def test_disallowed_words_are_found(source: str, word: str) -> None:
    (problem,) = _problems(source)
    assert word in problem
