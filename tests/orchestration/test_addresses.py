"""What hands out a machine's secrets is not asked, however it is written."""

import pytest

from orchestration.addresses import HTTP, TRACKING, problem


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.0.1", "2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376"),
        *("[fe80::1]", "[fe80::1%25eth0]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"),
        *("metadata.google.internal", "METADATA.google.internal.", "metadata"),
        "ann:secret@169.254.169.254:80",
    ],
)
def test_the_link_is_not_asked(host: str) -> None:
    assert "is not asked" in problem(f"http://{host}/latest/meta-data", HTTP)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:5000",
            "https://mlflow.example.org/x",
            "http://[::1]:5000",
            "http://10.1.2.3",
            "http://head",
        ),
        *("sqlite:////tmp/x.db", "postgresql://ann@db/x", "mysql+pymysql://db/x"),
    ],
)
def test_others_are(address: str) -> None:
    assert problem(address, TRACKING) == ""


@pytest.mark.parametrize(
    "address", ["file:///etc", "gopher://x", "databricks", "", "x", "javascript:1", "ftp://x", "s3://x"]
)
def test_other_schemes_are_not(address: str) -> None:
    assert "expected an address that begins with" in problem(address, TRACKING)


@pytest.mark.parametrize("address", ["http://[", "http://x:99999999", "http://[::1"])
def test_what_is_no_address_is_told(address: str) -> None:
    assert problem(address, HTTP) == "this is no address"
