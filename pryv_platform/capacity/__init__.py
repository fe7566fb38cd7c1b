"""From business requirements to machines: how many cores a privacy zone needs, and which machines the platform takes.

Everything here is a pure function of its arguments. Numbers are computed exactly, as decimals of the text that was
written in the inventory: 0.1 is one tenth, and 2000 users at one request per second fill one core to the brim but need
no second one. docs/capacity.md derives every formula, with its source.
"""
