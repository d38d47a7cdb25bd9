"""Installs pgolf; everything it says stands in settings.ini, so that nbdev and pip read one file."""
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters=["="])
ini.read("settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]


def needs(key):
    return [r.replace(";", "; ") for r in shlex.split(cfg.get(key, ""), posix=False)]


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["pgolf", "pgolf.*"]),
    python_requires=">=" + cfg["min_python"],
    install_requires=needs("requirements"),
    extras_require={extra: needs(f"{extra}_requirements") for extra in ("dev", "gpu", "sweep")},
    entry_points={"console_scripts": needs("console_scripts"),
                  "nbdev": [f'{cfg["lib_name"]}={cfg["lib_path"]}._modidx:d']},
    zip_safe=False,
)
