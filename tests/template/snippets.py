"""Small templates that are compared with jinja2: expressions, blocks, and what must be refused."""

import random

VARIABLES = {
    "s": "Hello, World", "t": "  padded\ttext \n", "u": "Äpfel ß Straße ΣΑΣ 中文 🙂", "empty": "", "n": 7, "m": -3, "z": 0,
    "f": 2.5, "g": -0.125, "big": 1e22, "tiny": 1.5e-7, "yes": True, "no": False, "nothing": None,
    "l": [3, 1, 2], "words": ["beta", "Alpha", "gamma", "alpha"], "nested": [[1, [2.0, None]], {"a": "it's"}, "q\"'q"],
    "d": {"b": 1, "a": 2, "items": 3, "c d": [1, 2]}, "e": {}, "el": [],
    "people": [{"name": "Bo", "age": 30, "tags": ["x"]}, {"name": "al", "age": 25, "tags": []}, {"name": "Cy", "age": 30}],
    "lines": "one\ntwo\n\nthree\n", "html": "<a href='x'>b & c</a>", "keys": {"1": "one", "true": "t"},
    "control": "a\u0000b\u0007\u001f\u007f\u0085\u00a0\u200b\u2028é\\n",
}

EXPRESSIONS = r"""
s  u  n  f  g  big  tiny  yes  nothing  l  words  nested  d  e  el  people  missing  [missing]  control  [control]  (1,)  ()  1, 2
n + f  n - m  n * m  n / 2  n // 2  m // 2  n % 4  m % 4  n % m  f // 1  g % 1  f ** 2  n ** 2  2 ** -1  -n  +n  -n ** 2  2 ** 3 ** 2
1e3  1.5e-5  1E5  1_000  0x1F  0o17  0b101  1.0  100000000000000000.0  1e16  123456789012345.6  0.1 + 0.2  1/3  10/2  7.0 // 2
yes + 1  yes * 3  'a' * 3  3 * 'ab'  [1] * 2  [1] + [2]  (1,) + (2,)  'a' + 'b'  'a' 'b'  'a' ~ 1 ~ none ~ 1.0 ~ [1, 'x'] ~ missing
1 == 1.0  1 == true  'a' == 'a'  [1] == [1.0]  {'a': 1} == {'a': 1.0}  none == missing  missing == absent  1 != 2  'a' < 'b'  [1, 2] < [1, 3]
1 < 2 < 3  1 < 2 > 3  2 in l  5 not in l  'b' in d  'ell' in s  'x' in missing  none in [none]  not yes  not not n  yes and n  no or 'x'  z or empty or 'last'
n if yes else m  n if no else m  (n if no) is defined  'a' if yes  [1 if no else 2]  n > 5 and f < 3 or no
s[0]  s[-1]  s[1:4]  s[::-1]  s[::2]  s[-5:]  s[:-5]  s[100:]  u[0]  u[-1]  u[2:9]  u[::-1]  l[0]  l[-1]  l[1:]  l[::-1]  l[5]  l[5] is defined  words[1:3]  (1, 2, 3)[1:]  range(10)[2:8:2]
d.b  d['b']  d.missing  d['missing'] is defined  d.items is callable  d['items']  d['c d']  d['c d'].1  people[0].name  people.0.name  people[2].tags is defined  nothing.x is defined  nothing['x'] is defined  n.x is undefined
s.upper()  s.lower()  u.upper()  u.lower()  u.title()  u.capitalize()  u.swapcase()  u.casefold()  s.title()  'ab-cd ef'.title()  "they're".title()
t.strip()  t.lstrip()  t.rstrip()  s.strip('Hd')  'xxaxx'.strip('x')  s.split()  s.split(',')  s.split('o', 1)  s.rsplit('o', 1)  t.split()  'a,b,,c'.split(',')  '_a__b_'.split('_')  'a b c d'.split(none, 2)  'a b c d'.rsplit(none, 2)  'abc'.split('x')  ''.split()  ''.split(',')
lines.splitlines()  lines.splitlines(true)  'a\r\nb\x0bc\u2028d'.splitlines()  s.partition(', ')  s.rpartition('o')  s.partition('x')
s.startswith('Hell')  s.startswith(('x', 'He'))  s.endswith('ld')  s.startswith('ello', 1)  s.find('o')  s.find('o', 5)  s.rfind('o')  s.find('z')  s.index('W')  s.count('l')  u.find('中')  s.count('')
s.replace('l', 'L')  s.replace('l', 'L', 1)  s.replace('', '-')  'aaa'.replace('aa', 'b')  s.center(20)  s.center(19, '*')  'ab'.center(5, '*')  'abc'.center(6, '*')  s.ljust(15, '.') ~ '|'  s.rjust(15, '.')  '42'.zfill(5)  '-42'.zfill(5)
'foobar'.removeprefix('foo')  'foobar'.removesuffix('bar')  'a\tb'.expandtabs(4)  ', '.join(words)  '-'.join('abc')  '-'.join(d)
'abc'.isalpha()  'a1'.isalnum()  '12'.isdigit()  '²'.isdigit()  '²'.isdecimal()  '½'.isnumeric()  ' \t'.isspace()  ''.isspace()  'abc'.islower()  'ABC'.isupper()  'Abc'.istitle()  'abc1'.isidentifier()  '1a'.isidentifier()  u.isascii()  u.islower()  '1'.islower()
d.get('b')  d.get('x')  d.get('x', 'dflt')  d.keys()  d.values()  d.items()  d.keys()|list  d.items()|list  d.keys()|length  d|length  e.get('a') is none  d.copy()  [1, 2, 1].count(1)  [1, 2, 1].index(2)  (1, 2).count(5)
'{} {}'.format(1, 'a')  '{0} {1} {0}'.format('x', 'y')  '{a} {b.name}'.format(a=1, b=people[0])  '{a[name]}'.format(a=people[0])  '{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c')  '{:*^9}'.format('mid')  '{:.2f} {:08.3f} {:+d} {:,}'.format(3.14159, 2.5, 4, 1234567)  '{:x} {:#x} {:b} {:o} {:e} {:%} {:g}'.format(255, 255, 5, 8, 12345.678, 0.25, 1e10)  '{!r} {!s}'.format('a', 'b')  '{{}} {}'.format(1)  '{:5}|{:5}'.format(1, 'a')  '{:{}}'.format('a', 4)  '{:.3}'.format('abcdef')  '{:.3}'.format(2.0/3)  '{}'.format(none)  '{}'.format(1.0)  '{:,.1f}'.format(-12345.67)  '{:010,}'.format(1234)  '{:_}'.format(1234567)  '{:d}'.format(true)
'%s %d %5.2f %r' % ('a', 3, 2.5, 'q')  '%s' % 'x'  '%s' % [1]  '%(a)s' % {'a': 1}  '%5s|%-5s|' % ('a', 'b')  '%05d %x %o %e %g %%' % (42, 255, 8, 1234.5, 0.0001)  '%+d' % 5  '%c' % 65  '%s' % none  '%.2s' % 'abc'  '%d' % 2.9  '%i' % true
s|upper  s|lower  'hello world'|title  "it's o'clock-time (now)"|title  'hELLO'|capitalize  s|length  s|count  t|trim  'xxaxx'|trim('x')  s|reverse  s|replace('l', 'L')  s|replace('l', 'L', 1)  s|wordcount  s|center(20)  n|string  nothing|string  missing|upper  5|upper  u|upper  u|title
missing|default('d')  empty|default('d')  empty|default('d', true)  none|default('d')  none|default('d', true)  missing|d  missing|default  missing.x|default('d') if missing is defined else 'none'  d.zz|default([])
l|sort  l|sort(reverse=true)  words|sort  words|sort(case_sensitive=true)  words|sort(reverse=true)  people|sort(attribute='age')|map(attribute='name')|list  people|sort(attribute='age,name')|map(attribute='name')|list  l|first  l|last  el|first  el|last is defined  s|first  s|last  d|first  l|min  l|max  words|min  words|max  people|max(attribute='age')  el|min is defined  l|sum  people|sum(attribute='age')  l|sum(start=10)  l|reverse|list  l|join  l|join(', ')  people|join(', ', attribute='name')  words|unique|list  [1, 1.0, true, 'a']|unique|list  'abc'|list  d|list  d|items|list  missing|items|list  d|dictsort  d|dictsort(reverse=true)  {'b': 2, 'A': 1, 'c': 0}|dictsort  {'b': 2, 'A': 1}|dictsort(true)  {'b': 2, 'A': 1}|dictsort(by='value')
people|map(attribute='name')|list  people|map(attribute='tags', default='-')|list  words|map('upper')|join('|')  words|map('replace', 'a', 'o')|list  l|map('string')|list  people|selectattr('tags')|list|length  people|selectattr('age', 'equalto', 30)|map(attribute='name')|list  people|selectattr('age', '>', 26)|list|length  people|rejectattr('age', 'lt', 30)|map(attribute='name')|list  people|selectattr('tags', 'defined')|list|length  l|select('odd')|list  l|reject('odd')|list  [0, 1, '', 'a', none]|select|list  l|select('in', [1, 2])|list  people|groupby('age')  people|groupby('age')|map(attribute='grouper')|list  people|groupby('name')|map('first')|list  range(7)|batch(3)|list  range(7)|batch(3, 'x')|list  range(7)|slice(3)|list  range(7)|slice(3, 'x')|list
'3'|int  '3.9'|int  'x'|int  'x'|int(5)  '0x1A'|int(base=16)  '12abc'|int(-1)  2.9|int  -2.9|int  true|int  ' 42 '|int  '1_000'|int  none|int  '1e3'|int  '3.5'|float  'x'|float  'x'|float(1.5)  3|float  'inf'|float  '1e3'|float  2.5|round  3.5|round  2.567|round(2)  2.5|round(0, 'ceil')  2.51|round(1, 'floor')  5|round  25|round(-1)  35|round(-1)  2.675|round(2)  -7|abs  g|abs  1000|filesizeformat  1|filesizeformat  123456789|filesizeformat  123456789|filesizeformat(true)  '%s-%s'|format('a', 2)  '%(x)s'|format(x=5)
lines|indent  lines|indent(2)  lines|indent(2, true)  lines|indent(2, true, true)  lines|indent('> ')  lines|indent(first=true)  'a'|indent  s|truncate(5)  s|truncate(8, true)  'a long sentence with words'|truncate(12)  'a long sentence with words'|truncate(12, true, '!')  'short'|truncate(3, leeway=10)  html|e  html|escape  html|forceescape  html|safe  html|striptags  html|e|e  html|e|forceescape  'a b&c/d?'|urlencode  {'a b': 'c&d', 'e': 1}|urlencode  {'class': 'x', 'id': none, 'data': '"'}|xmlattr  [html|e]  ('<'|e) + '<'  '<' + ('<'|e)  ('<'|safe) ~ '<'  ('%s'|safe) % '<'  ('a'|safe).join(['<', 'b'])  (html|safe)|upper
d|tojson  people|tojson  people|tojson(indent=2)  people|tojson(indent=0)  el|tojson(indent=4)  e|tojson(indent=4)  nested|tojson  u|tojson  control|tojson  u|tojson(ensure_ascii=true)  d|tojson(sort_keys=true)  d|tojson(separators=(',', ':'))  d|tojson(indent='--')  {1: 2, none: 3, true: 4, 1.5: 5}|tojson  [1.0, 1e22, 1e-7, 0.1, -0.0]|tojson  (1, 2)|tojson  html|tojson  none|tojson  'a/b"\\'|tojson  {}|tojson  d|tojson(true)  [[], {}, [[]]]|tojson(indent=1)
s is string  n is string  n is number  yes is number  f is float  n is integer  yes is integer  yes is boolean  nothing is none  missing is none  missing is defined  missing is undefined  d is mapping  l is mapping  l is sequence  s is sequence  d is sequence  d.items() is sequence  n is sequence  missing is sequence  l is iterable  n is iterable  s is iterable  missing is iterable  l|map('string') is iterable  range is callable  s.upper is callable  s is callable  n is odd  n is even  n is divisibleby 7  n is divisibleby(3)  'abc' is lower  'ABC' is upper  yes is true  n is true  no is false  nothing is sameas none  yes is sameas true  1 is sameas true  n is eq 7  n is equalto(7)  n is ne 7  n is gt 5  n is lt 5  n is ge 7  n is le 7  2 is in l  2 is in([1, 2])  'a' is in 'abc'  'upper' is filter  'nope' is filter  'odd' is test  html is escaped  html|e is escaped  n is not odd  n is not none and yes  not n is odd  l is not string
{'a': 1, 'b': [1, 2]}  {'a': 1, 'a': 2}  {1: 'x', 'y': none}  dict(a=1, b=2)  dict({'a': 1}, b=2)  dict([('x', 1)])  range(5)  range(5)|list  range(2, 5)|list  range(10, 0, -3)|list  range(0)|list  range(3)[1]  3 in range(5)  range(5)|length  [1, 2,]  (1, 2,)  [[1, 2], (3,), {'k': (4,)}]
html|safe|list  (html|safe)[0]  html|safe|last  html|safe|first  'x' % missing  cycler  namespace  dict  namespace(a=1).a  namespace(a=1, b='x')  cycler('a', 'b').next()  joiner('|')()  joiner  missing()|default if no else 'x'  s.upper  [s.upper] is iterable  "a\nb\t\\\"\x41\u00e9\101\q"  'it''s'  'quote"s'  ["a'b", 'a"b', "a'b\"c"]  'x'|default('y')|upper  (l|sort)[0]  l|sort|first  (s|upper)[0:3]  -n|abs  2 * n|string  'a' ~ 'b'|upper  n is odd and m is odd  s|upper|lower|title  d.items()|map('first')|list  people|map(attribute='name')|map('lower')|sort|join(',')  ('a', 'b')|tojson  s.split(', ')[1].upper()[::-1]  [1, 'a', 2.5, none, true]|join('/')
"""

BLOCKS = [
    "{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}",
    "{% for x in el %}x{% else %}none{% endfor %}", "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}no{% endfor %}",
    "{% for x in l if x > 9 %}x{% else %}no{% endfor %}",
    "{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% break %}{% else %}else{% endfor %}", "{% for x in l %}{% continue %}{% else %}else{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}else{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a + b + c }}{% endfor %}",
    "{% for c in 'aü🙂' %}[{{ c }}]{% endfor %}", "{% for x in l %}{% for y in l %}{{ loop.index }}{{ loop.depth }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(found=false) %}{% for i in l if not ns.found %}{{ i }}{% set ns.found = i == 1 %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{{ ns['a'] }}{{ ns }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}", "{% set x = 1, 2 %}{{ x }}",
    "{% set x %}  a {{ n }} {% endset %}[{{ x }}]", "{% set x | upper | trim %}  a {{ n }} {% endset %}[{{ x }}]",
    "{% if no %}a{% elif z %}b{% elif n %}c{% else %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}",
    "{% if no %}{% set q = 1 %}{% endif %}{{ q is defined }}", "{% if yes %}{% set q = 1 %}{% endif %}{{ q }}",
    "{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% for i in l %}{% if i == 1 %}{% set n = 'set' %}{% endif %}{{ n }} {% endfor %}{{ n }}",
    "{% macro m(a, b=2, c=a) %}({{ a }}{{ b }}{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=5) }}{{ m(b=1, a=2) }}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% macro m() %}{{ later }}{% endmacro %}{{ m() }}|{% set later = 1 %}{{ m() }}",
    "{% macro m() %}{{ s }}{% set s = 'inner' %}{{ s }}{% endmacro %}{{ m() }}{{ s }}",
    "{% macro m(x) %}<{{ caller(x, 2) }}>{% endmacro %}{% call(a, b) m(1) %}{{ a + b }}{{ n }}{% endcall %}",
    "{% macro m() %}<{{ caller() if caller else 'no' }}>{% endmacro %}{% call m() %}body{% endcall %}{{ m() }}",
    "{% macro m(a) %}{{ m.name }}{{ m.arguments }}{{ a is defined }}{% endmacro %}{{ m() }}{{ m }}",
    "{% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}{{ inner is defined }}",
    "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{%- for x in [1, [2, [3, 4]], 5] recursive %}{{ loop(x) if x is not number else x }}({{ loop.depth }}){%- endfor %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set a = 3 %}{{ a }}{% endwith %}{{ a is defined }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b') | trim %}  aa {% endfilter %}|",
    "{% raw %}{{ x }} {% if %}{% endraw %}|", "{%- raw -%}  {{ x }}  {%- endraw -%}  |", "a\n  {% raw %}\n x\n  {% endraw %}\nb",
    "{# comment #}a{#- c -#} b", "a\n  {# comment #}\nb", "a {#- x #} b {# y -#}  c", "{# a {{ b }} {% c %} #}x",
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\nc\n", "a\n  {%+ if yes %}\n  b\n  {%+ endif +%}\nc\n",
    "a\n  {{ n }}\n  {{- n -}}\n  b", "a {% if yes -%} b {%- endif %} c", "x {% if yes %}\n\n{% endif %}\n\ny", "{% if yes %}\r\na\r\n{% endif %}\r\nb\r",
    "\n\n a\n\n", "a\n", "a\n\n", "", "\n", "{{ n }}\n", "  {% set x = 1 %}  \n  y", "text {% set x = 1 %}\n  z", "\t {% if yes %} q{% endif %}",
    "{{ '{{ x }}' }}{{ '%}' }}{{ \"}}\" }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {}}}}", "{%if yes%}x{%endif%}", "{{n}}{{-n-}}{{ n }}",
    "{% set x = [1, 2] %}{% set x = x + [3] %}{{ x }}", "{% set x = cycler('a', 'b') %}{{ x.next() }}{{ x.next() }}{{ x.next() }}{{ x.current }}",
    "{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}",
    "{% if l|select('gt', 9) %}truthy{% endif %}", "{% set g = l|map('string') %}{{ g|first }}{{ g|list }}", "{% for x in l|reverse %}{{ loop.length }}{{ x }}{% endfor %}",
    "{% generation %}a{% set x = 1 %}{{ n }}{% endgeneration %}{{ x is defined }}", "{% print n %}{% print s, f %}",
    "{% block content %}{{ n }}{% set n = 2 %}{% endblock %}{{ n }}", "{% for x in l %}{% block b scoped %}{{ x }}{% endblock %}{% endfor %}",
    "{% set t = '\\n' %}[{{ t }}]", "{% if no %}{{ 1 | nope }}{% endif %}ok", "{{ (1 | nope) if no else 2 }}",
    "{% for m in people %}{{ m.name ~ (', ' if not loop.last else '') }}{% endfor %}", "{{ d.update is defined }}{{ l.append is defined }}{{ s.__class__ is defined }}{{ s.__class__ }}",
    "{% for x in [1, 2, 3, 4] %}{% if loop.index is even %}{{ x }}{% endif %}{% endfor %}", "{% set loop_messages = people[1:] %}{% for p in loop_messages %}{{ p['name'] }}{% endfor %}",
    "{% for x in l %}{{ loop.index0 }}{% if loop.nextitem is defined and loop.nextitem > x %}<{% endif %}{% endfor %}",
]

REFUSED = [
    "{{ raise_exception('no') }}", "{% if %}", "{% if yes %}", "{% endif %}", "{{ }}", "{{ 1 + }}", "{{ 'a }}", "{% for x %}{% endfor %}", "{% nope %}", "{% if yes %}\n", "{{ {**{}} }}", "{{ -l|first }}",
    "{{ people|map(attribute='tags.0')|list }}",
    "{{ x | nope }}", "{{ x is nope }}", "{{ missing.x }}", "{{ missing['x'] }}", "{{ missing + 1 }}", "{{ missing() }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}",
    "{{ 1 % 0 }}", "{{ 'a' < 1 }}", "{{ none < 1 }}", "{{ missing < 1 }}", "{{ 1 in 5 }}", "{{ 1 in 'abc' }}", "{{ none|length }}", "{{ 5|length }}", "{{ l|map('string')|length }}",
    "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% set a, b = [1] %}",
    "{{ missing|tojson }}", "{{ [missing]|tojson }}", "{{ range|tojson }}", "{{ range(3)|tojson }}", "{{ d.items()|tojson }}", "{{ l.append(1) }}", "{{ d.update({}) }}", "{{ l.pop() }}", "{{ s.__class__.__mro__ }}",
    "{{ range(100001) }}", "{{ range('a') }}", "{{ nothing() }}", "{{ s() }}", "{{ n() }}", "{{ s.nope() }}", "{{ d.nope() }}", "{% set d.x = 1 %}", "{% set missing.x = 1 %}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ f(a=1, 2) }}", "{{ f(a=1, a=2) }}", "{% break %}", "{% continue %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{{ s.split('') }}", "{{ s.index('zzz') }}", "{{ '{}'.format() }}", "{{ '{a}'.format() }}", "{{ '%s %s' % 'a' }}", "{{ '%d' % 'a' }}", "{{ '%s' % ('a', 'b') }}", "{{ '{:d}'.format('a') }}", "{{ '{:z}'.format(1) }}", "{{ '{'.format(1) }}",
    "{# open", "{% raw %}x", "{{ (1 }}", "{{ [1 }}", "{{ {'a' 1} }}", "{{ 1 ] }}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{% for loop in l %}{% endfor %}", "{{ x is is y }}", "{{ d.items }}{{ d.items.x.y }}", "{{ {[1]: 2} }}",
    "{{ 'a'|round }}", "{{ 'a'|abs }}", "{{ [1, 'a']|sort }}", "{{ [1, 'a']|sum }}", "{{ 5|first }}", "{{ none|first }}", "{{ none|list }}", "{{ 5|join }}", "{{ l|dictsort }}", "{{ none|items|list }}",
    "{{ 5|indent }}", "{{ s|truncate(1) }}", "{{ s.center('a') }}", "{% call s %}{% endcall %}", "{% with a %}{% endwith %}", "{% block a %}{% endblock %}{% block a %}{% endblock %}", "{% do l.append(1) %}",
    "{{ loop.index }}", "{% for x in l %}{{ loop(x) }}{% endfor %}", "{{ 1 if }}", "{{ a b }}", "{{ 1 2 }}", "{{ a.1.b.c }}", "{% macro %}{% endmacro %}", "{% if yes %}{% for x in l %}{{ x | nope }}{% endfor %}{% endif %}", "{{ -'a' }}", "{{ - }}",
    "{{ strftime_now() }}", "{{ n[:2] }}", "{{ nothing[::-1] }}", "{{ yes[1:] }}", "{{ d[1:] }}", "{{ missing[1:] }}", "{{ d.keys()[1:] }}", "{{ raise_exception() }}", "{{ dict(1) }}", "{{ namespace(1) }}", "{{ cycler() }}", "{{ l|batch }}", "{{ l|sort(foo=1) }}", "{{ s.upper(1) }}", "{{ s.replace('a') }}", "{% else %}", "{{ not }}",
    "{{ s|replace('a') }}", "{{ dict(**l) }}", "{{ dict(*5) }}", "{{ l[1:'a'] }}", "{{ l[::0] }}", "{{ @ }}", "{{ $x }}", "{{ x ? y }}", "{{ x && y }}", "{{ !x }}", "{{ `x` }}", "{{ \"\\x4\" }}", "{{ 2 ** 'a' }}",
]


def expressions():
    result = []
    for line in EXPRESSIONS.strip().splitlines():
        result += [each for each in line.split("  ") if each.strip()]
    return result


def generated(count, seed=1):
    """Templates put together at random from parts that make sense more often than not."""
    source = random.Random(seed)
    atoms = ["s", "t", "u", "empty", "n", "m", "z", "f", "g", "yes", "no", "nothing", "missing", "l", "words", "d", "e", "el",
             "people", "nested", "lines", "1", "0", "2.5", "'a'", "'b c'", "[]", "{}", "none", "true", "people[0]", "d.b"]
    filters = ["upper", "lower", "trim", "length", "string", "list", "first", "last", "join(',')", "default('x')", "tojson",
               "sort", "reverse", "int", "float", "title", "capitalize", "replace('a', 'b')", "map('string')|list", "unique|list",
               "select|list", "e", "safe", "sum", "min", "max", "round", "abs", "indent(1)", "tojson(indent=1)", "batch(2)|list",
               "dictsort", "items|list", "wordcount", "d('y', true)"]
    tests = ["defined", "none", "string", "mapping", "number", "iterable", "sequence", "true", "false", "odd", "in [1, 'a']",
             "boolean", "integer", "float", "eq 1", "lower", "undefined"]
    operators = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
    members = [".name", "['b']", "[0]", "[-1]", "[1:]", "[:2]", "[::-1]", ".b", ".0", ".upper()", ".split()", ".items()|list", ".get('a', 1)",
               ".strip()", ".keys()|list"]

    def expression(depth):
        roll = source.random()
        if depth == 0 or roll < 0.15:
            return source.choice(atoms)
        inner = expression(depth - 1)
        member = source.choice(members)
        if ":" in member and 0.70 <= roll < 0.85:  # jinja2 folds slices of constants, and takes other ways with them
            inner = source.choice(["s", "t", "u", "l", "words", "n", "d", "nothing", "missing", "people[0].name", "l|list"])
        if roll < 0.35:
            return f"({inner})|{source.choice(filters)}"
        if roll < 0.45:
            return f"({inner}) is {source.choice(['', 'not '])}{source.choice(tests)}"
        if roll < 0.70:
            return f"({inner}) {source.choice(operators)} ({expression(depth - 1)})"
        if roll < 0.85:
            return f"({inner}){member}"
        if roll < 0.90:
            return f"not ({inner})"
        if roll < 0.95:
            return f"[{inner}, {expression(depth - 1)}]"
        return f"({inner}) if ({expression(depth - 1)}) else ({expression(depth - 1)})"

    def text():
        return source.choice(["", " ", "\n", "a", " a ", "\n  ", "  \n", "x\n", "\n\n", "\ty", " {# c #} ", "{#- c -#}\n"])

    def sign(character):
        return source.choice(["", "", "-", "+"]) if character == "%" else source.choice(["", "", "-"])

    def tag(body):
        return "{%" + sign("%") + " " + body + " " + sign("%") + "%}"

    def block(depth):
        if depth == 0 or source.random() < 0.3:
            return text() + "{{" + sign("{") + f" {expression(1)} " + sign("{") + "}}" + text()
        inner = "".join(block(depth - 1) for _ in range(source.randint(1, 2)))
        kind = source.randrange(5)
        if kind == 0:
            return text() + tag(f"if {expression(1)}") + inner + tag("else") + text() + tag("endif") + text()
        if kind == 1:
            return text() + tag(f"for x in {source.choice(['l', 'words', 'el', 'd', 'people'])}") + inner + "{{ x }}" + tag("endfor") + text()
        if kind == 2:
            return text() + tag(f"set v{depth} = {expression(1)}") + text() + inner
        if kind == 3:
            return text() + tag(f"macro m{depth}(a)") + inner + tag("endmacro") + "{{ m%d(1) }}" % depth
        return text() + tag("filter upper") + inner + tag("endfilter") + text()

    return ["{{ " + expression(3) + " }}" for _ in range(count)] + [block(3) for _ in range(count)]
