import pytest

from wsi_mil.addresses import url_fault, without_secrets


@pytest.mark.parametrize("url", ["s3://bucket/a.svs", "https://host.org:8080/a b/ü.ndpi", "http://127.0.0.1/x/{a}.tiff"])
def test_a_plain_address_is_taken(url: str) -> None:
    assert not url_fault(url)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://anna:geheim@host/a.svs", "user or password"),
        ("https://geheim@host/a.svs", "user or password"),
        ("https://host/a.svs?X-Amz-Signature=geheim", "signed"),
        ("s3://bucket/a.svs#geheim", "signed"),
        ("gopher://geheim@old/a.svs", "not gopher://"),
        ("https://[geheim@host/a.svs?geheim", "no valid URL"),
    ],
)
def test_a_url_with_a_secret_is_rejected_without_repeating_it(url: str, word: str) -> None:
    fault = url_fault(url)
    assert word in fault and "geheim" not in fault and "path " in fault


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("s3://bucket", "names no file"),
        ("https:///a.svs", "names no file"),
        ("ftp://host/a.svs", "s3://, https://, http://"),
        ("s3://bucket/a.MRXS", "several files"),
        ("https://host/series/1.dcm", "several files"),
    ],
)
def test_what_cannot_be_read_from_a_url_is_named(url: str, word: str) -> None:
    assert word in url_fault(url)


def test_secrets_are_taken_out_of_text_and_the_rest_stays() -> None:
    text = "GET 'https://me:pw@host/a.svs?sig=pw&x=1' and s3://bucket/b.svs, 12 % of a@b"
    assert without_secrets(text) == "GET 'https://…@host/a.svs?…' and s3://bucket/b.svs, 12 % of a@b"
