"""Reading a module: order, names, what counts once."""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from toolips_udp import Extension, MultiHandler, StartError, handler, route
from toolips_udp.manifest import find, import_fresh, read


def test_exports_come_in_the_order_of_all_else_of_definition():
    class Named(Extension):
        def __init__(self, name):
            self.name = name

    z, a, m = Named("z"), Named("a"), Named("m")
    main = handler(lambda c: None)
    plain = SimpleNamespace(z=z, a=a, main=main, m=m)
    assert read(plain).extensions == [z, a, m]
    plain.__all__ = ["m", "main", "z"]
    assert read(plain).extensions == [m, z]


def test_one_object_under_two_names_counts_once():
    main = handler(lambda c: None)
    found = read(SimpleNamespace(first=main, again=main))
    assert found.main is main and found.called(main) == "first"


def test_private_names_are_not_exports():
    assert (
        read(SimpleNamespace(main=handler(lambda c: None), _other=handler(lambda c: None))).main.name is None
    )


def test_a_multi_handlers_main_is_the_main_handler():
    def first(c):
        pass

    chooser = MultiHandler(first)
    found = read(SimpleNamespace(chooser=chooser))
    assert found.main is chooser.main and found.chooser is chooser
    decorated = handler(first)
    assert read(SimpleNamespace(chooser=MultiHandler(decorated), first=decorated)).main is decorated
    with pytest.raises(StartError, match="2 main handlers"):
        read(SimpleNamespace(chooser=chooser, other=handler(lambda c: None)))
    with pytest.raises(StartError, match="two MultiHandlers"):
        read(SimpleNamespace(a=chooser, b=MultiHandler(first)))


def test_a_module_with_routes_alone_needs_no_handler():
    page = route("/", lambda c: None)
    found = read(SimpleNamespace(page=page))
    assert found.routes == [page] and found.main is None


def test_an_async_route_of_an_extension_is_a_start_error():
    class Waits(Extension):
        async def route(self, c):
            pass

    with pytest.raises(StartError, match="plain def"):
        read(SimpleNamespace(waits=Waits(), main=handler(lambda c: None)))


def test_inherited_hooks_count():
    class Base(Extension):
        def route(self, c):
            pass

    class Child(Base):
        pass

    from toolips_udp.extensions.base import hook

    assert hook(Child(), "route") is not None and hook(Extension(), "route") is None


def test_a_module_is_never_written_to():
    plain = SimpleNamespace(main=handler(lambda c: None))
    before = dict(vars(plain))
    read(plain)
    assert vars(plain) == before


def test_an_import_error_inside_a_module_is_not_taken_for_a_missing_module(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(StartError, match=r"broken_inside\.py:1 raised .*a_module_that_is_not_there") as caught:
        find("broken_inside")
    assert caught.value.code == "broken-module" and isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(StartError, match="no module 'not_there_either'"):
        find("not_there_either")


def test_a_misspelt_name_in_all_gets_a_suggestion():
    made = ModuleType("misspelt")
    made.main_handler = handler(lambda c: None)
    made.__all__ = ["main_handlr"]
    with pytest.raises(StartError, match="Did you mean 'main_handler'"):
        read(made)


def test_a_module_changed_within_a_second_is_not_taken_from_its_compiled_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "changed_soon.py"
    file.write_text("VERSION = 1\n")
    stamp = file.stat().st_mtime_ns
    __import__("changed_soon")  # writes the cache
    file.write_text("VERSION = 2\n")
    os.utime(file, ns=(stamp, stamp))
    for fresh in (lambda: import_fresh("changed_soon"), lambda: find(str(file))):
        del sys.modules["changed_soon"]
        assert fresh().VERSION == 2


def test_a_file_whose_name_is_taken_by_another_module_is_still_called_by_its_name(tmp_path):
    path = tmp_path / "json.py"
    path.write_text("from toolips_udp import handler\n@handler\ndef main(c): ...\n")
    found = find(path)
    assert found.__name__ != "json" and read(found).name == "json"
