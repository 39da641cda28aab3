package policywasm

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// A pooled instance ends after so many evaluations, or when its memory has grown
// by so much: many toolchains never free, and memories can't shrink.
const (
	poolUses   = 1000
	poolGrowth = 64 // pages of 64 KiB
)

// take gives an instance that may use that much fuel: from the pool if one waits
// there, else a fresh one. With a failure there may be an instance too.
func (p *Policy) take(ctx context.Context, fuel uint64) (*guest, *Failure) {
	select {
	case g := <-p.pool:
		g.granted = min(fuel, 1<<62)
		g.fuel.Set(g.granted)
		g.depth.Set(api.EncodeU32(p.caps.Scan.Depth))
		g.grow.Set(0)
		g.ctx = context.WithValue(g.linked, logKey{}, ctx.Value(logKey{}))
		return g, nil
	default: // also where there is no pool
		return p.fresh(ctx, fuel)
	}
}

// fresh makes an instance, linked if the module is foreign.
func (p *Policy) fresh(ctx context.Context, fuel uint64) (*guest, *Failure) {
	if p.pool != nil { // it outlives this evaluation
		ctx = context.WithValue(context.Background(), logKey{}, ctx.Value(logKey{}))
	}
	ctx, unlink, f := p.link(ctx)
	if f != nil {
		return nil, f
	}
	g, f := p.instance(ctx, fuel, p.caps.Fuel)
	if g == nil {
		unlink()
		return nil, f
	}
	g.linked, g.ctx, g.unlink = ctx, ctx, unlink
	return g, f
}

// keep puts an instance that answered as it should into the pool. It reports
// whether it did.
func (p *Policy) keep(g *guest) bool {
	if p.pool == nil {
		return false
	}
	if g.uses++; g.uses >= poolUses || g.memory.Size()/pageSize > g.pages+poolGrowth {
		return false
	}
	select {
	case p.pool <- g:
		return true
	default:
		return false
	}
}

// drain ends the instances that wait.
func (p *Policy) drain(ctx context.Context) {
	for {
		select {
		case g := <-p.pool:
			g.close(ctx)
		default:
			return
		}
	}
}
