package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	// socketName is the name of the socket within the data folder.
	socketName = "admin.sock"
	// elsewhereName is the name of the file that says where the socket is, where the path of the data folder is
	// too long for one.
	elsewhereName = "admin.path"
	// maxElsewhere bounds that file.
	maxElsewhere = 4 << 10
)

// maxSocketPath is how long the path of a socket may be: sun_path without its last zero.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// socketOf is where the socket of a data folder is. It wraps [fs.ErrNotExist] if the path is too long for one
// and no gateway has said where else it is.
func socketOf(data string) (string, error) {
	path := filepath.Join(data, socketName)
	if len(path) <= maxSocketPath() {
		return path, nil
	}
	root, err := os.OpenRoot(data)
	if err != nil {
		return "", err
	}
	defer root.Close()
	info, err := root.Lstat(elsewhereName)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || info.Size() > maxElsewhere:
		return "", fmt.Errorf("%s is not the file that a gateway wrote", elsewhereName)
	}
	text, err := root.ReadFile(elsewhereName)
	if err != nil {
		return "", err
	}
	path = strings.TrimSuffix(string(text), "\n")
	if !filepath.IsAbs(path) || filepath.Base(path) != socketName || len(path) > maxSocketPath() {
		return "", fmt.Errorf("%s names no socket", elsewhereName)
	}
	return path, nil
}

// place returns where to listen, and what removes the place afterwards. In a data folder whose path is too
// long, that is a folder of its own which nobody else can enter, in XDG_RUNTIME_DIR or that of temporary
// files; the data folder says where.
func place(data string) (path string, remove func() error, err error) {
	path = filepath.Join(data, socketName)
	if len(path) <= maxSocketPath() {
		return path, func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "warder-") // mode 0700; empty: the folder of temporary files
	if err != nil {
		return "", nil, err
	}
	elsewhere := filepath.Join(dir, socketName)
	if len(elsewhere) > maxSocketPath() {
		return "", nil, errors.Join(fmt.Errorf(
			"%s and %s have more than the %d bytes that the path of a socket may have: choose a data folder with a shorter path", path, elsewhere, maxSocketPath()), os.Remove(dir))
	}
	root, err := os.OpenRoot(data)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	defer root.Close()
	if err := root.Remove(elsewhereName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	if err := root.WriteFile(elsewhereName, []byte(elsewhere+"\n"), 0o600); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return elsewhere, func() error { return os.RemoveAll(dir) }, nil
}
