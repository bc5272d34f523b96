from setuptools import setup
setup(name='here', version='1', py_modules=['here'])
