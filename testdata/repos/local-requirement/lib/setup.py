from setuptools import setup

setup(name='locally', version='1.0', py_modules=['locally'])
