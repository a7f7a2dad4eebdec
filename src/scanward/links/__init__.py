"""Links: a transport and a codec make a wire that speaks the vocabulary of `commands.wire`.

``base`` says what a link is; import each link from its own module (a guard on TCP needs no CAN library).
"""
