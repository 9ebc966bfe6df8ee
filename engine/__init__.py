"""The machine: proposes, branches, runs, measures and judges. No terminal in it; never imports `cockpit`."""
