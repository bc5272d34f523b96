package sim

import (
	"bufio"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// A canvas is what a chart is drawn on. Positions are in pixels from the top left; anchors are SVG's.
type canvas interface {
	text(x, y, size float64, bold bool, anchor, s string)
	line(colour string, width float64, xs, ys []float64)
}

// svg writes elements as they come.
type svg struct{ w io.Writer }

func (c svg) text(x, y, size float64, bold bool, anchor, s string) {
	weight := ""
	if bold {
		weight = ` font-weight="bold"`
	}
	fmt.Fprintf(c.w, `<text x="%.1f" y="%.1f" font-size="%g"%s text-anchor="%s">%s</text>`+"\n", x, y, size, weight, anchor, html.EscapeString(s))
}

func (c svg) line(colour string, width float64, xs, ys []float64) {
	var d strings.Builder
	for i := range xs {
		fmt.Fprintf(&d, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], xs[i], ys[i])
	}
	fmt.Fprintf(c.w, `<path d="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linejoin="round"/>`+"\n", d.String(), colour, width)
}

// Chart draws, as SVG, a panel for each policy with builds wanted, builds running and launches in progress over the
// window, then the wait-time curves of all.
func (rep *Report) Chart(w io.Writer) error {
	b := bufio.NewWriter(w)
	height := rep.height()
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" fill="#222" role="img">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(rep.title()))
	rep.draw(svg{b})
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

// PNG draws the same as pixels, two for each of the chart's.
func (rep *Report) PNG(w io.Writer) error {
	const scale = 2
	c := &pixels{img: image.NewRGBA(image.Rect(0, 0, scale*chartWidth, scale*rep.height())), scale: scale, faces: map[face]font.Face{}}
	draw.Draw(c.img, c.img.Bounds(), image.White, image.Point{}, draw.Src)
	rep.draw(c)
	if c.err != nil {
		return fmt.Errorf("draw chart: %w", c.err)
	}
	return png.Encode(w, c.img)
}

// pixels draws on an image. The first error stays.
type pixels struct {
	img   *image.RGBA
	scale float64
	faces map[face]font.Face
	err   error
}

type face struct {
	size float64
	bold bool
}

func (c *pixels) face(f face) font.Face {
	if found, ok := c.faces[f]; ok {
		return found
	}
	file := goregular.TTF
	if f.bold {
		file = gobold.TTF
	}
	parsed, err := opentype.Parse(file)
	if err != nil {
		c.err = err
		return nil
	}
	made, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: f.size * c.scale, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		c.err = err
		return nil
	}
	c.faces[f] = made
	return made
}

func (c *pixels) text(x, y, size float64, bold bool, anchor, s string) {
	f := c.face(face{size, bold})
	if f == nil {
		return
	}
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(color.RGBA{0x22, 0x22, 0x22, 0xff}), Face: f}
	at := fixed.Int26_6(x * c.scale * 64)
	switch anchor {
	case "middle":
		at -= d.MeasureString(s) / 2
	case "end":
		at -= d.MeasureString(s)
	}
	d.Dot = fixed.Point26_6{X: at, Y: fixed.Int26_6(y * c.scale * 64)}
	d.DrawString(s)
}

// line draws each piece of a line as a small box along it. Pieces overlap by half a width, so that corners are closed.
func (c *pixels) line(colour string, width float64, xs, ys []float64) {
	var r, g, b uint8
	if _, err := fmt.Sscanf(colour, "#%02x%02x%02x", &r, &g, &b); err != nil {
		c.err = fmt.Errorf("colour %q: %w", colour, err)
		return
	}
	half := width / 2 * c.scale
	// Only the box round the line is looked at: most lines are short rules.
	box := image.Rectangle{Min: image.Pt(math.MaxInt32, math.MaxInt32)}
	for i := range xs {
		x, y := xs[i]*c.scale, ys[i]*c.scale
		box.Min.X, box.Min.Y = min(box.Min.X, int(x-2*half)-1), min(box.Min.Y, int(y-2*half)-1)
		box.Max.X, box.Max.Y = max(box.Max.X, int(x+2*half)+2), max(box.Max.Y, int(y+2*half)+2)
	}
	if len(xs) < 2 || box.Empty() || box.Dx() > 4*chartWidth {
		return
	}
	z := vector.NewRasterizer(box.Dx(), box.Dy())
	to := func(do func(x, y float32), x, y float64) {
		do(float32(x-float64(box.Min.X)), float32(y-float64(box.Min.Y)))
	}
	for i := 1; i < len(xs); i++ {
		x1, y1, x2, y2 := xs[i-1]*c.scale, ys[i-1]*c.scale, xs[i]*c.scale, ys[i]*c.scale
		dx, dy := x2-x1, y2-y1
		long := math.Hypot(dx, dy)
		if long == 0 {
			continue
		}
		dx, dy = dx/long*half, dy/long*half
		to(z.MoveTo, x1-dx-dy, y1-dy+dx)
		to(z.LineTo, x2+dx-dy, y2+dy+dx)
		to(z.LineTo, x2+dx+dy, y2+dy-dx)
		to(z.LineTo, x1-dx+dy, y1-dy-dx)
		z.ClosePath()
	}
	z.Draw(c.img, box, image.NewUniform(color.RGBA{r, g, b, 0xff}), image.Point{})
}
