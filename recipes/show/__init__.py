"""show: what a person sees on screen: plans, progress, tables and pictures."""
