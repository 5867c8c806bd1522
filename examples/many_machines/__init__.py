"""Several machines on one: two hosts behind nginx, one PostgreSQL, one SeaweedFS.

``./run many`` starts it; ``README.rst`` beside this file tells what there is to see.
"""
