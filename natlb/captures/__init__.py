"""Captured packets: files as tcpdump and Wireshark write them, to packets as the engine takes them, and back.

files    what stands in a file: pcap of either byte order and resolution, and pcapng
links    where the IP packet begins, by what the link put before it
packets  the two together, and what a capture has cut off made up for
writer   packets to a pcap

This is read by hand and not by a library. scapy reads all of it, but takes half a second and 50 MB to import and is
nothing that a balancer needs, so it stays with the lab and the tests, where it says whether these modules are right.
What is left of a capture format, when packets are not dissected, is two hundred lines; and they have to do what no
general reader does: stop at a damaged record with its number and place, go on with a file that is still being written,
and keep what was captured apart from what there was.
"""
