"""The tree of errors: complete, drawn as it is, and impossible to extend without a status."""

from __future__ import annotations

import inspect
import re

import pytest

from service import errors
from service.errors import ServiceError

CLASSES = [
    each
    for each in vars(errors).values()
    if inspect.isclass(each) and issubclass(each, ServiceError) and each is not ServiceError
]


def test_every_error_names_status_and_code():
    assert all(400 <= each.status < 600 for each in CLASSES)
    codes = [each.code for each in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("error", CLASSES)
def test_the_drawing_shows_it(error):
    assert re.search(rf"── {error.__name__} +{error.status} +{error.code}\b", errors.__doc__)


@pytest.mark.parametrize("error", CLASSES)
def test_the_default_message_tells_what_to_do(error):
    message = str(error())
    assert message == inspect.cleandoc(error.__doc__)
    assert len(message) > 30
    assert str(error("another")) == "another"
    assert error(pointer="/spec/dataset", retry_after_s=2).retry_after_s == 2


def test_an_error_without_a_status_cannot_be_defined():
    with pytest.raises(TypeError, match="status"):

        class Nameless(ServiceError):
            code = "nameless"
