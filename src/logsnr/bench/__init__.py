"""Speed as a ratio to a peer, on identical weights and identical outputs, in one run on the machine at hand.

A contender is a process of its own: what one sets for itself (threads, memory, kernels) touches nobody else. All build
the same network from the same files, then wait; they are let go one at a time, in turn, so that whatever else the
machine does falls on all alike. What is reported is the median of the ratios of neighbours and its quartiles.
"""
