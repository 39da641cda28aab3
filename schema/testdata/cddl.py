"""Judges CBOR by a CDDL grammar: cddl.py GRAMMAR CASES, a case "RULE HEX" a line.

Prints "valid" or "invalid" for each. pycddl checks against the first rule of a
grammar, so each rule is put in front in turn.
"""
import re
import sys

from pycddl import Schema, ValidationError

grammar = open(sys.argv[1]).read()
schemas = {}
for line in open(sys.argv[2]):
    rule, _, data = line.rstrip("\n").partition(" ")
    if rule not in schemas:
        if not re.search(r"(?m)^%s = " % re.escape(rule), grammar):
            sys.exit("no rule " + rule)
        schemas[rule] = Schema("start-here = %s\n" % rule + grammar)
    try:
        schemas[rule].validate_cbor(bytes.fromhex(data))
        print("valid")
    except ValidationError:
        print("invalid")
