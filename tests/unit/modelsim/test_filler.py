from modelsim.filler import text, word


def test_the_tokens_of_an_answer_make_its_text() -> None:
    assert text(40) == "".join(word(index) for index in range(40))
    assert text(3) == "The engine behind"
    assert text(0) == ""
