from wsi_mil.wording import in_rows, named, on_one_line, signal_text


def test_many_are_counted_and_a_number_that_comes_twice_is_named_once() -> None:
    assert named(["a", "b"]) == "a, b" and named(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert in_rows([3]) == in_rows([3, 3]) == "row 3" and in_rows([3, 9, 3], "line") == "lines 3, 9"
    assert in_rows(range(1, 501)) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 490 more"


def test_a_message_stays_on_its_line_and_drives_no_terminal() -> None:
    assert on_one_line("ü 'a'\r\n\x1b[31m\u2028\xa0b") == "ü 'a'\\r\\n\\x1b[31m\\u2028\\xa0b"


def test_a_signal_is_named_and_sigkill_with_its_usual_cause() -> None:
    assert signal_text(11) == "SIGSEGV" and signal_text(9) == "SIGKILL (the system does so when memory runs out)"
