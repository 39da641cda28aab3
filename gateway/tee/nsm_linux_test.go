package tee

import (
	"errors"
	"syscall"
	"testing"
	"unsafe"

	"github.com/trustedmcp/tmcp/evidence/nitro"
)

// TestNSMDevice: the request is laid out as the kernel's header has it, and a
// device that is no Nitro Security Module is told by its error.
func TestNSMDevice(t *testing.T) {
	// _IOWR(type, nr, size): direction 3, size, type, nr.
	if want := uintptr(3<<30 | unsafe.Sizeof(nsmRaw{})<<16 | 0x0A<<8); nsmIoctl != want {
		t.Errorf("ioctl %#x, want %#x", nsmIoctl, want)
	}
	m, err := openNSM("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	d := m.(*nsmDevice)
	if _, err := d.Send(nitro.DescribeRequest()); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("got %v", err)
	}
	for _, n := range []int{0, nitro.MaxRequest + 1} {
		if _, err := d.Send(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Send(nitro.DescribeRequest()); err == nil {
		t.Error("closed: no error")
	}
}
