package api

import (
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/google/uuid"
)

// roles is the set of those who may use a route.
type roles uint8

const (
	sysAdmins roles = 1 << iota
	tenantAdmins
	customerUsers
	anybody // no token is asked for

	members = sysAdmins | tenantAdmins | customerUsers
	tenants = tenantAdmins | customerUsers
)

// admits tells whether the set contains an authority.
func (r roles) admits(a registry.Authority) bool {
	switch a {
	case registry.SysAdmin:
		return r&sysAdmins != 0
	case registry.TenantAdmin:
		return r&tenantAdmins != 0
	case registry.CustomerUser:
		return r&customerUsers != 0
	}
	return false
}

// owns tells whether a principal may look at a device and use it: an administrator of its tenant, or a user of its customer
// (ThingsBoard's AccessValidator).
func owns(p *auth.Principal, tenant, customer uuid.UUID) bool {
	if tenant != p.Tenant {
		return false
	}
	return p.Authority == registry.TenantAdmin || p.Authority == registry.CustomerUser && customer == p.Customer
}
