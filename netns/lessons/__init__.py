"""The course: lessons that run, exercises that check themselves.

A lesson is a folder beside this file, `NN-name/`, and nothing but these four files:

    lesson.md         what the student reads, with the commands that are run between the paragraphs; then the exercise
    check_name.py     what must hold when the exercise is done: one function, `check(lab)`, that yields claims
    hints.md          a heading for each hint, from a nudge to nearly the answer
    solution.md       the answer, with the commands that do it

The text is plain Markdown, which reads as well on a web page as in a terminal. Its `console` blocks are the only thing
that runs; there is no second list of commands that could differ from what is written.

    page        Markdown -> steps: a text, and the commands after it
    catalogue   which lessons there are
    player      shows a page a step at a time and runs its commands on the live lab
    course      the commands `lesson`, `check`, `hint`, `solve`

Each lesson begins with a fresh lab in a state that it names. So every lesson can be the first one.
"""
