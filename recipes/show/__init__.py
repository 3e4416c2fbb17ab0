"""show: what a person sees: lines, tables and progress on screen (console), and what is laid out there.

plan     what a stage of a recipe would do
data     what `prepare` made, would make, or finds
scheme   the numbers of a scheme; verify: what readers make of a folder; results: scores, found factors
figures  pictures of a scheme and of a mix
"""
