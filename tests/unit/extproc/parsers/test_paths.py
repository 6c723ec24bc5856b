import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.parsers.paths import Named, named_in


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/v1/chat/completions", Named()),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01", Named("gpt-4o")),
        ("/openai/deployments/org%2Fm/embeddings", Named("org/m")),
        ("/v2/models/llama/infer", Named("llama")),
        ("/v2/models/llama/versions/2/generate_stream", Named("llama")),
        ("/v1beta/models/gemini-2:generateContent", Named("gemini-2")),
        ("/v1beta/models/org/m:streamGenerateContent?alt=sse", Named("org/m")),
        ("/v1/engines/davinci/completions", Named("davinci")),
        ("/model/anthropic.claude/invoke-with-response-stream", Named("anthropic.claude")),
        ("/v1/realtime?model=gpt-realtime", Named("", "gpt-realtime")),
        ("/v1/realtime?x=1&%6dodel=a%2Fb", Named("", "a/b")),
        ("/v1/realtime?model=a&model=a", Named("", "a")),
        ("/v1/realtime?model=a&model=b", Named("", "b", unclear=True)),
        ("/openai/deployments/a/x?model=b", Named("a", "b")),
        ("/v1/models/llama", Named()),
        ("/x?models=a", Named()),
        ("/x?model", Named()),
        ("/x?model=" + "a" * 9000, Named("", "", unclear=True)),
    ],
)
def test_names(target: str, named: Named) -> None:
    assert named_in(target) == named


@given(st.text(max_size=60))
def test_any_target_has_an_answer(target: str) -> None:
    for text in (target, f"/openai/deployments/{target}", f"/x?model={target}", f"/v1/models/{target}:x"):
        named_in(text)
