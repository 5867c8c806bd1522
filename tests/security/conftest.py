"""Fixtures of the tests with bad input."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps import dispose, make_app
from tests.security.site import Site


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for a whole module: each of its requests leaves it as it was."""
    app = make_app(tmp_path_factory.mktemp("site"))
    yield Site(app)
    dispose(app)


@pytest.fixture
def site(lasting_site: Site) -> Iterator[Site]:
    """That site; a test that failed does not let the next one fail."""
    yield lasting_site
    if lasting_site.picture() != lasting_site.before:
        lasting_site.begin_anew()
