#!/bin/sh
# Installs duly from the folder this script stands in, or removes what it installed: install.sh [--uninstall]
# In the environment, each with its default:
#   PREFIX      /usr/local
#   LIBDIR      PREFIX/lib       libraries, pkgconfig/ and cmake/duly/
#   INCLUDEDIR  PREFIX/include   headers
#   DOCDIR      PREFIX/share/doc/duly
#   DESTDIR     empty            a folder that stands in front of all of them, for packagers
# Keeps true: nothing is built, no Rust is needed; files are replaced, never written into, so a running program keeps the
# library it has; --uninstall with the same variables removes each file that was installed, and the folders of duly's own.
set -eu
from=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
docdir=${DOCDIR:-$prefix/share/doc/duly}
destdir=${DESTDIR:-}

for folder in "$prefix" "$libdir" "$includedir" "$docdir"; do
    case $folder in
        /*) ;;
        *) printf 'install.sh: "%s" is not an absolute path; PREFIX, LIBDIR, INCLUDEDIR and DOCDIR have to be\n' "$folder" >&2; exit 2 ;;
    esac
done
case ${1:-} in
    '' | --uninstall) ;;
    *) printf 'usage: install.sh [--uninstall]; PREFIX, LIBDIR, INCLUDEDIR, DOCDIR and DESTDIR are read from the environment\n' >&2; exit 2 ;;
esac

# each FOLDER: the files and links of a folder of the package, one a line, without the folder's name.
each() { (cd "$from/$1" && find . \( -type f -o -type l \) | sed 's|^\./||' | LC_ALL=C sort); }

if [ "${1:-}" = --uninstall ]; then
    each include | while IFS= read -r file; do rm -f "$destdir$includedir/$file"; done
    each lib | while IFS= read -r file; do rm -f "$destdir$libdir/$file"; done
    each share/doc/duly | while IFS= read -r file; do rm -f "$destdir$docdir/$file"; done
    for folder in "$includedir/duly" "$libdir/cmake/duly" "$docdir/examples" "$docdir"; do
        rmdir "$destdir$folder" 2>/dev/null || true
    done
    printf 'duly is removed from %s\n' "$destdir$prefix"
    exit
fi

# copy FOLDER TARGET: a folder of the package; links stay links.
copy() {
    each "$1" | while IFS= read -r file; do
        mkdir -p "$(dirname "$destdir$2/$file")"
        if [ -L "$from/$1/$file" ]; then
            ln -sfn "$(readlink "$from/$1/$file")" "$destdir$2/$file"
        else
            mode=644
            case $file in *.so.*) mode=755 ;; esac
            install -m "$mode" "$from/$1/$file" "$destdir$2/$file"
        fi
    done
}
copy include "$includedir"
copy lib "$libdir"
copy share/doc/duly "$docdir"

# The files that say where everything is. In terms of the prefix, so that pkg-config --define-prefix moves all of it.
# shellcheck disable=SC2016  # the variable is pkg-config's
in_prefix() { case $1 in "$prefix"/*) printf '${prefix}%s' "${1#"$prefix"}" ;; *) printf '%s' "$1" ;; esac; }
for name in duly duly-static; do
    sed -e "s|^prefix=.*|prefix=$prefix|" -e "s|^libdir=.*|libdir=$(in_prefix "$libdir")|" \
        -e "s|^includedir=.*|includedir=$(in_prefix "$includedir")|" \
        "$from/lib/pkgconfig/$name.pc" >"$destdir$libdir/pkgconfig/$name.pc"
done
if [ "$includedir" != "$(dirname "$libdir")/include" ]; then
    sed "s|^set(_duly_include .*|set(_duly_include \"\${_duly_lib}/$(realpath -ms --relative-to="$libdir" "$includedir")\")|" \
        "$from/lib/cmake/duly/dulyConfig.cmake" >"$destdir$libdir/cmake/duly/dulyConfig.cmake"
fi
printf 'duly is in %s\n' "$destdir$prefix"
