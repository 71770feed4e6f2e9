// Package operator has an API server know the kinds of prometheus-operator, of which none runs here.
package operator
