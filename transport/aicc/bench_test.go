package aicc_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/transport/aicc"
)

// BenchmarkCall is a request of so many bytes, and an answer of as many, through
// both ends over loopback.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			fill := strings.Repeat("x", size)
			url := serve(b, says("application/json", `{"jsonrpc":"2.0","id":7,"result":{"text":"`+fill+`"}}`), aicc.ServerConfig{})
			hc, _ := client(b, aicc.ClientConfig{})
			message := `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"text":"` + fill + `"}}`
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			for b.Loop() {
				resp, err := hc.Post(url, "application/json", strings.NewReader(message))
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status, err)
				}
			}
		})
	}
}
