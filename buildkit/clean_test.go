package buildkit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// checkClean looks for what must not be in an image: caches, mount points, and anything of this machine's network.
func checkClean(t *testing.T, e *buildkit.Engine, made plan.Made) {
	t.Helper()
	const script = `du -sk --exclude=.git /tmp /home/jovyan /root | awk '$1 > 1024'; ls -d /run/bindery* /req /var/lib/apt/lists/*_* 2>/dev/null
find / -xdev \( -name '.cache' -o -name 'apt.conf' \) -not -path '/usr/share/doc/*'
grep -rIls -e /run/bindery /etc /home /srv/npm /root /usr/local /srv/conda/envs/notebook/etc /srv/conda/envs/notebook/pyvenv.cfg`
	got, _ := tryInside(t, e, made.Image.Name, "/bin/sh", "-c", script)
	if strings.TrimSpace(got) != "" {
		t.Errorf("left in the image:\n%s", got)
	}
	config, err := json.Marshal(made.Image)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"/run/bindery", "CERT", "CA_BUNDLE", "PROXY", "UV_", "TMPDIR", "ASSETS"} {
		if strings.Contains(string(config), word) {
			t.Errorf("%s is in the image's configuration: %s", word, config)
		}
	}
}
