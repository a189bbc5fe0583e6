"""Labs: what a learner opens, and the solutions they are made from and checked against.

::

    solutions/NN-name.md      the source, edited by hand
          │ build
          ▼
    solutions/NN-name.ipynb   the solution: executed, its outputs recorded
          │ strip
          ▼
    labs/NN-name.ipynb        questions only; here the learner writes: the attempt
          │ check
          ▼
    a verdict per exercise    ──►  a table, a certificate, an instructor's table

======================  ===========================================================
``notebook``            notebooks, their cells, their exercises
``course``              the course's folder, its labs, fresh copies and backups
``sandbox``             where notebooks run, and leave nothing running
``build``               sources to solutions and labs
``check``               an attempt among the solution's cells, run by nbval
``runner``              the script that runs nbval and records how each cell ran
``verdict``             the results in plain words
``here``                the same verdict in a notebook, of what its kernel holds
``progress``            all labs checked, with how far one is
``record``              what the checks found, kept for as long as nothing changes
``certificate``         a page that says what was solved
``handout``             a folder for learners: labs, and checks without answers
``handins``             the notebooks that were handed in, and whose each is
``grade``               all of these checked, as a table
``shown``               names that others chose, as they may be shown
``needs``               what the commands need: the course, packages, a place to write
``options``             the options that several commands have
``cli``, ``roomcli``    the command ``mscourse lab``: for learners, for instructors
======================  ===========================================================
"""

from mscourse.labs.here import check_here

__all__ = ["check_here"]
