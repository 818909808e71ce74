"""Tests of trionet over the virtual network, driven by seeds: what must hold whatever goes wrong."""
