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
    a verdict per exercise

======================  ===========================================================
``notebook``            notebooks, their cells, their exercises
``course``              the course's folder, its labs, fresh copies and backups
``sandbox``             where notebooks run, and leave nothing running
``build``               sources to solutions and labs
``check``               an attempt among the solution's cells, run by nbval
``runner``              the script that runs nbval and records how each cell ran
``verdict``             the results in plain words
``cli``                 the command ``mscourse lab``
======================  ===========================================================
"""
