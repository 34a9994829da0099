#!/usr/bin/env python3
"""Renders chat templates with Python's jinja2 in the settings of `transformers`: the reference that ours must equal.

  render_reference.py TEMPLATE.jinja VARIABLES.json     writes the text; what jinja2 refuses is written to standard error
                                                        (exit status 1)

Other tests import `environment` and `render`. The environment is set up from jinja2's own documentation and from what
transformers documents about chat templates; it shares no code with src/template.
"""

import copy
import json
import sys
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationBlocks(Extension):
    """{% generation %} ... {% endgeneration %}: the body is printed, and its place remembered."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_print"), [], [], body).set_lineno(line)

    def _print(self, caller):
        text = caller()
        spans = getattr(self.environment, "generated", None)
        if spans is not None:
            spans.append(text)
        return text


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    result = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, "jinja2.ext.loopcontrols"])
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return result


def render(source, variables):
    """The text, or None and why jinja2 refuses the template or the variables. The filter indent changes a list that it is
    given, so every rendering has variables of its own."""
    try:
        return environment().from_string(source).render(**copy.deepcopy(variables)), None
    except Exception as error:  # jinja2 lets Python's own errors through
        return None, f"{type(error).__name__}: {error}"


def main():
    source = Path(sys.argv[1]).read_text(encoding="utf-8")
    variables = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    text, why = render(source, variables)
    if text is None:
        sys.exit(why)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
